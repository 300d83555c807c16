"""What another engine says of a table: `engines.py ENGINE FOLDER ID`, answered by one line of JSON.

ENGINE is `deltalake` (delta-rs and DataFusion), `duckdb` or `chdb` (ClickHouse); ID names one record.
"""

import json
import sys
from urllib.parse import unquote

QUERIES = {
    "numbers": "SELECT count(*) AS a, sum(status) AS b, {min} AS c, {max} AS d FROM {table}",
    "paths": "SELECT DISTINCT path AS a FROM {table} WHERE path IS NOT NULL",
    "days": "SELECT DISTINCT CAST(date AS {text}) AS a FROM {table}",
    "record": "SELECT path AS a, client_user_agent AS b, {time} AS c, seq AS d, request AS e FROM {table} WHERE id = '{id}'",
}


def deltalake(folder):
    from deltalake import DeltaTable, QueryBuilder

    engine = QueryBuilder().register("lake", DeltaTable(folder))

    def ask(sql):
        table = engine.execute(sql).read_all()
        columns = [[value.as_py() for value in table.column(name)] for name in table.column_names]
        return [list(row) for row in zip(*columns)]

    micros = "CAST({} AS BIGINT)"
    return ask, {"table": "lake", "text": "VARCHAR"}, micros


def duckdb(folder):
    import duckdb

    # Where tests/run puts it.
    connection = duckdb.connect(config={"extension_directory": sys.prefix + "/duckdb"})
    try:
        connection.execute("SET autoinstall_known_extensions = false; LOAD delta")
        table = f"delta_scan('{folder}')"
    except duckdb.Error:
        # The extension could not be had: DuckDB reads the files that are the table.
        from deltalake import DeltaTable

        files = [unquote(uri) for uri in DeltaTable(folder).file_uris()]
        table = f"read_parquet({files!r}, hive_partitioning = true)"
    print(f"duckdb reads {table.split('(')[0]}", file=sys.stderr)

    def ask(sql):
        return [list(row) for row in connection.execute(sql).fetchall()]

    return ask, {"table": table, "text": "VARCHAR"}, "epoch_us({})"


def chdb(folder):
    from chdb import query

    def ask(sql):
        out = str(query(sql, "JSONCompactEachRow"))
        return [json.loads(line) for line in out.splitlines()]

    return ask, {"table": f"deltaLakeLocal('{folder}')", "text": "String"}, "toUnixTimestamp64Micro(assumeNotNull({}))"


def main():
    engine, folder, record = sys.argv[1:]
    ask, words, micros = {"deltalake": deltalake, "duckdb": duckdb, "chdb": chdb}[engine](folder)
    words |= {"id": record, "time": micros.format("time")}
    words |= {"min": micros.format("min(time)"), "max": micros.format("max(time)")}
    answers = {name: ask(sql.format(**words)) for name, sql in QUERIES.items()}
    count, status, first, last = (int(value) for value in answers["numbers"][0])
    (path, agent, time, seq, request), = answers["record"]
    print(json.dumps({
        "count": count, "status": status, "first": first, "last": last,
        "paths": sorted(path for path, in answers["paths"]), "days": sorted(day for day, in answers["days"]),
        "record": [path, agent, int(time), int(seq), request],
    }))


main()
