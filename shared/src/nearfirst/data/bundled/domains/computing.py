"""Computing: tasks of servers and databases, unrelated to every test task."""

from nearfirst.data.bundled.task import Draw, Row, Task

_WORDS = ("cache", "token", "index", "buffer", "socket", "thread", "packet", "cursor", "query", "batch")
_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_HOSTS = ("db-01", "db-02", "web-07", "web-12", "auth-03", "queue-09", "proxy-04", "build-11")
_FAULTS = ("connection refused", "disk quota exceeded", "checksum mismatch", "handshake timeout", "heartbeat lost")
_TABLES = ("invoices", "shipments", "sessions", "accounts", "payments", "audits", "tickets", "devices")
_COLUMNS = ("created_at", "status_code", "region_id", "amount_eur", "owner_id", "retry_count", "priority")
_HTTP = (
    (301, "Moved Permanently"),
    (304, "Not Modified"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (409, "Conflict"),
    (429, "Too Many Requests"),
    (503, "Service Unavailable"),
)
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SHELL = (
    ("count the lines of", "wc -l"),
    ("show the first bytes of", "head -c 64"),
    ("follow the growth of", "tail -f"),
    ("make executable the file", "chmod +x"),
    ("print the checksum of", "sha256sum"),
    ("sort the unique lines of", "sort -u"),
)


def _log_record(draw: Draw) -> Row:
    level, host, fault = draw.one(_LEVELS), draw.one(_HOSTS), draw.one(_FAULTS)
    stamp = f"2024-{draw.number(1, 12):02}-{draw.number(1, 28):02}T{draw.number(0, 23):02}:{draw.number(0, 59):02}:00Z"
    pid = draw.number(1000, 9999)
    return Row(
        f"Parse this syslog record and report its level, host and process:\n{stamp} {host} [{pid}] {level}: {fault}",
        (f"The record has level {level} on host {host}, written by process {pid}.",),
    )


def _sql_query(draw: Draw) -> Row:
    table, (column, key) = draw.one(_TABLES), draw.some(_COLUMNS, 2)
    bound, limit = draw.number(10, 900), draw.number(2, 50)
    return Row(
        f"Translate to SQL: select {column} from table {table} where {key} exceeds {bound}, "
        f"returning at most {limit} records.",
        (f"The query is SELECT {column} FROM {table} WHERE {key} > {bound} LIMIT {limit};",),
    )


def _cron_line(draw: Draw) -> Row:
    minute, hour, weekday, table = draw.number(0, 59), draw.number(0, 23), draw.number(0, 6), draw.one(_TABLES)
    return Row(
        f"Convert to a crontab entry: run /opt/jobs/{table}.sh each {_WEEKDAYS[weekday]} at {hour:02}:{minute:02} UTC.",
        (f"The entry is {minute} {hour} * * {weekday} /opt/jobs/{table}.sh",),
    )


def _shell_command(draw: Draw) -> Row:
    (wish, command), (folder, stem) = draw.one(_SHELL), draw.some(_WORDS, 2)
    path = f"/var/{folder}/{stem}.{draw.one(('log', 'csv', 'bin', 'cfg'))}"
    return Row(
        f"Which bash command would {wish} {path} on a Linux server? Name the command.",
        (f"The command is {command} {path}",),
    )


def _http_status(draw: Draw) -> Row:
    (code, phrase), table, key = draw.one(_HTTP), draw.one(_TABLES), draw.number(10, 9999)
    return Row(
        f"A REST client sent GET /api/v2/{table}/{key} and the server replied with HTTP status {code}. "
        "Give its meaning.",
        (f"The server answers {code} {phrase}.",),
    )


TASKS = (
    Task("computing_log_record", "logs", "train", _log_record),
    Task("computing_sql_query", "sql", "train", _sql_query),
    Task("computing_cron_line", "cron", "train", _cron_line),
    Task("computing_shell_command", "shell", "train", _shell_command),
    Task("computing_http_status", "http", "train", _http_status),
)
