#!/usr/bin/env python3
"""What a request costs: direct, nginx, nginx with a JSON access log, and Daybook, in one run.

Needs Debian's nginx, wrk and python3, two processors, and a `daybook` binary of the profile `dist`:

    cargo build --profile dist && benches/proxy.py

Every arrangement is one worker pinned to processor 0; the upstream (nginx with a fixed body) and the
load generator (wrk, 64 keep-alive connections) share processor 1. Rounds are interleaved: each round
measures every arrangement once, so that a machine whose speed drifts drifts for all of them. CPU is
what the scheduler says all threads of the proxy's process used (Kafka's included), to the nanosecond,
per request answered.
Quote ratios of medians, never absolutes.
"""

import argparse
import json
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONNECTIONS = 64
BODIES = {"1k": 1024, "64k": 65536}
JSON_LOG = (
    'log_format audit escape=json \'{"time":"$time_iso8601","msec":"$msec","method":"$request_method",'
    '"scheme":"$scheme","host":"$host","uri":"$request_uri","protocol":"$server_protocol","status":$status,'
    '"request_bytes":$request_length,"response_bytes":$body_bytes_sent,"duration":$request_time,'
    '"upstream":"$upstream_response_time","ip":"$remote_addr","forwarded":"$http_x_forwarded_for",'
    '"user_agent":"$http_user_agent","request_id":"$request_id"}\';'
)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, process):
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"a server ended at once: {process.args}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on {port}: {process.args}")


def spawn(command, cpu, port, **more):
    process = subprocess.Popen(["taskset", "-c", str(cpu), *command], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, **more)
    wait_for(port, process)
    return process


def nginx(folder, port, body_of_server, cpu, http=""):
    folder.mkdir()
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;"
        f"fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n{http}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=1024; {body_of_server} }} }}\n")
    return spawn(["nginx", "-p", str(folder), "-c", str(conf)], cpu, port)


def upstream(folder, port):
    (folder / "www").mkdir()
    for name, size in BODIES.items():
        (folder / "www" / name).write_bytes(b"x" * size)
    files = f"root {folder}/www; open_file_cache max=10; sendfile on; tcp_nopush on;"
    return nginx(folder / "upstream", port, files, 1)


def nginx_proxy(log):
    def start(folder, port, target, _):
        access = f"access_log {folder}/{log}/access.log audit buffer=64k flush=1s;" if log == "json" else ""
        server = f"{access} location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ''; " \
                 "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; " \
                 "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id; }"
        http = f"{JSON_LOG} upstream app {{ server 127.0.0.1:{target}; keepalive 256; keepalive_requests 1000000000; }}"
        return nginx(folder / log, port, server, 0, http)
    return start


def daybook(level, sink):
    def start(folder, port, target, args):
        home = folder / f"daybook-{level}-{sink}"
        home.mkdir()
        sinks = {
            "none": "",
            "file": f'[sink.file]\npath = "{home}/records.ndjson"\n',
            "kafka": f'[sink.kafka]\nbrokers = "{args.kafka}"\ntopic = "daybook.bench"\n',
            "both": f'[sink.file]\npath = "{home}/records.ndjson"\n[sink.kafka]\nbrokers = "{args.kafka}"\ntopic = "daybook.bench"\n',
        }[sink]
        (home / "daybook.toml").write_text(
            f'data = "{home}/data"\nworkers = 1\n[listener.bench]\nbind = "127.0.0.1:{port}"\n'
            f'upstream = "http://127.0.0.1:{target}"\n[defaults]\nlevel = "{level}"\n{sinks}')
        return spawn([args.daybook, "run", "--config", str(home / "daybook.toml")], 0, port)
    return start


ARRANGEMENTS = {
    "direct": None,
    "nginx": nginx_proxy("plain"),
    "nginx + JSON log": nginx_proxy("json"),
    "Daybook, capture off": daybook("none", "none"),
    "Daybook, journal": daybook("metadata", "none"),
    "Daybook, journal + file": daybook("metadata", "file"),
    "Daybook, journal + Kafka": daybook("metadata", "kafka"),
    "Daybook, journal + file + Kafka": daybook("metadata", "both"),
}
BASE = "nginx + JSON log"


def cpu_seconds(pid):
    # Not /proc/PID/stat: its ticks of 10 ms are coarse for 2 000 requests a second.
    return sum(int(s.read_text().split()[0]) for s in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def peak_mib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def load(port, body, seconds, rate):
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if rate:
            script.write(f"function delay() return {int(1000 * CONNECTIONS / rate)} end\n")
        script.write('function done(s, l, r) io.stderr:write(string.format("%d %f %f %f %d", s.requests, s.duration,'
                     'l:percentile(50), l:percentile(99), s.errors.status + s.errors.connect + s.errors.read'
                     '+ s.errors.write + s.errors.timeout)) end\n')
        script.flush()
        ran = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script.name,
                              "-H", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
                              f"http://127.0.0.1:{port}/{body}"], capture_output=True, text=True, check=True)
    requests, micros, p50, p99, errors = (float(x) for x in ran.stderr.split())
    if errors:
        sys.exit(f"{errors:.0f} requests failed: this is no measurement\n{ran.stdout}")
    return {"requests": requests, "rate": requests / (micros / 1e6), "p50": p50 / 1000, "p99": p99 / 1000}


def measure(pid, port, body, args, rate):
    load(port, body, 1, rate)
    before = cpu_seconds(pid) if pid else 0
    result = load(port, body, args.seconds, rate)
    # Records on their way to a sink belong to the requests that made them.
    if pid:
        time.sleep(0.5)
        result["cpu"] = (cpu_seconds(pid) - before) / result["requests"] * 1e6
        result["peak"] = peak_mib(pid)
    return result


def table(title, results):
    print(f"\n### {title}\n")
    print("| arrangement | CPU µs/request | × nginx + JSON log | requests/s | p50 ms | p99 ms | peak MiB | × |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    base = results[BASE]
    for name, rounds in results.items():
        median = lambda key: statistics.median(r[key] for r in rounds)
        if "cpu" in rounds[0]:
            ratio = statistics.median(r["cpu"] / b["cpu"] for r, b in zip(rounds, base))
            memory = median("peak") / statistics.median(b["peak"] for b in base)
            cells = [f"{median('cpu'):.1f}", f"**{ratio:.2f}**"]
            tail = [f"{median('peak'):.1f}", f"{memory:.2f}"]
        else:
            cells, tail = ["–", "–"], ["–", "–"]
        print("| " + " | ".join([name, *cells, f"{median('rate'):.0f}", f"{median('p50'):.2f}", f"{median('p99'):.2f}", *tail]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--daybook", default="target/dist/daybook", help="the binary")
    parser.add_argument("--seconds", type=int, default=5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each arrangement")
    parser.add_argument("--kafka", help="a broker (host:port); without it the Kafka rows are left out")
    parser.add_argument("--only", help="only arrangements whose name contains this (the base is always measured)")
    parser.add_argument("--load", help="only loads whose title contains this: 1 KiB, 64 KiB, 2 000")
    parser.add_argument("--json", help="write the raw figures to this file")
    args = parser.parse_args()
    for tool in ["nginx", "wrk", "taskset"]:
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: apt-get install nginx wrk util-linux")
    if not Path(args.daybook).exists():
        sys.exit(f"{args.daybook} is missing: cargo build --profile dist")
    chosen = {n: s for n, s in ARRANGEMENTS.items()
              if (args.kafka or "Kafka" not in n) and (not args.only or args.only in n or n == BASE)}
    raw = {}
    loads = [("1 KiB, saturated", "1k", None), ("64 KiB, saturated", "64k", None), ("1 KiB, 2 000 requests/s", "1k", 2000)]
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder:
        for title, body, rate in (load for load in loads if not args.load or args.load in load[0]):
            results = {name: [] for name in chosen}
            for turn in range(args.rounds):
                for name, start in chosen.items():
                    home = Path(folder) / f"{body}-{rate}-{turn}-{re.sub('[^a-z]+', '-', name.lower())}"
                    home.mkdir()
                    target, port = free_port(), free_port()
                    app = upstream(home, target)
                    proxy = start(home, port, target, args) if start else None
                    try:
                        results[name].append(measure(proxy.pid if proxy else None, port if proxy else target, body, args, rate))
                    finally:
                        for process in filter(None, [proxy, app]):
                            process.send_signal(signal.SIGTERM)
                            process.wait(timeout=60)
                        shutil.rmtree(home)
                    print(f"{title}: round {turn + 1}: {name}: {results[name][-1]}", file=sys.stderr)
            table(title, results)
            raw[title] = results
    if args.json:
        Path(args.json).write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    main()
