#!/usr/bin/env python3
"""The questions of benches/lake.rs, asked of the same files by DuckDB and ClickHouse.

    cargo bench --bench lake -- --records 10000000 --keep /tmp/lake     # Daybook's own figures
    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install duckdb chdb deltalake
    /tmp/venv/bin/python benches/lake.py /tmp/lake

Medians of five, warm. Both engines get as many threads as there are processors.
"""

import os
import statistics
import sys
import time

from deltalake import DeltaTable

ROUNDS = 5
END = "TIMESTAMPTZ '2026-11-24 00:00:00+00'"


def questions(table, newest, rare_user, token, some_id, hour, day, contains):
    return {
        "newest page (50)": f"SELECT * FROM {table} ORDER BY time DESC LIMIT 50",
        "one user, 50 newest": f"SELECT * FROM {table} WHERE user_email = '{newest}' ORDER BY time DESC LIMIT 50",
        "a rare user, all": f"SELECT * FROM {table} WHERE user_email = '{rare_user}' ORDER BY time DESC LIMIT 1000",
        "an API key with status >= 500":
            f"SELECT * FROM {table} WHERE api_key_token = '{token}' AND status >= 500 ORDER BY time DESC LIMIT 100",
        "path contains, common":
            f"SELECT * FROM {table} WHERE {contains('area1/')} ORDER BY time DESC LIMIT 50",
        "path contains, rare, full scan":
            f"SELECT * FROM {table} WHERE {contains('items/99999')} ORDER BY time DESC LIMIT 1000",
        "by id": f"SELECT * FROM {table} WHERE id = '{some_id}'",
        "histogram of 24 h":
            f"SELECT {hour} AS hour, result, count(*) FROM {table} WHERE {day} GROUP BY ALL ORDER BY 1, 2",
        "histogram of 30 days": f"SELECT {hour} AS hour, result, count(*) FROM {table} GROUP BY ALL ORDER BY 1, 2",
        "distinct users a day": f"SELECT date, user_id, count(*) FROM {table} GROUP BY ALL",
        "export of 100 000": f"SELECT * FROM {table} ORDER BY time DESC LIMIT 100000",
    }


def median(ask):
    times, rows = [], 0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        rows = ask()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3, rows


def duckdb_engine(files, samples):
    import duckdb

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    table = f"read_parquet({files!r}, hive_partitioning = true)"
    asked = questions(table, **samples, hour="date_trunc('hour', time)", day=f"time >= {END} - INTERVAL 1 DAY",
                      contains=lambda part: f"contains(path, '{part}')")
    return {name: median(lambda sql=sql: len(db.execute(sql).fetchall())) for name, sql in asked.items()}


def chdb_engine(files, samples):
    from chdb import session

    db = session.Session()
    folder = os.path.commonpath(files)
    names = ",".join(os.path.relpath(name, folder) for name in files)
    # The folders' `date=…` are a column by itself.
    table = f"file('{folder}/{{{names}}}', 'Parquet')"
    asked = questions(table, **samples, hour="toStartOfHour(time)",
                      day="time >= toDateTime64('2026-11-23 00:00:00', 6, 'UTC')",
                      contains=lambda part: f"position(path, '{part}') > 0")
    rows = lambda sql: len(db.query(sql, "TSV").bytes().splitlines())
    return {name: median(lambda sql=sql: rows(sql)) for name, sql in asked.items()}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = os.path.abspath(sys.argv[1])
    files = sorted(uri.removeprefix("file://") for uri in DeltaTable(folder).file_uris())
    import duckdb

    one = lambda sql: duckdb.execute(sql).fetchone()[0]
    table = f"read_parquet({files!r})"
    samples = {
        "newest": "user17@example.com",
        "rare_user": "user19990@example.com",
        "token": one(f"SELECT api_key_token FROM {table} WHERE api_key_token IS NOT NULL ORDER BY time DESC LIMIT 1"),
        "some_id": one(f"SELECT id FROM {table} WHERE time < {END} - INTERVAL 15 DAY ORDER BY time DESC LIMIT 1"),
    }
    engines = {"DuckDB": duckdb_engine(files, samples), "ClickHouse": chdb_engine(files, samples)}
    print("| question | " + " | ".join(f"{name}, ms | rows" for name in engines) + " |")
    print("| --- " * (1 + 2 * len(engines)) + "|")
    for name in engines["DuckDB"]:
        cells = [f"{engine[name][0]:.1f} | {engine[name][1]}" for engine in engines.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
