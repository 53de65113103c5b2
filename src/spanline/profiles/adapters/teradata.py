"""Teradata."""

from __future__ import annotations

from spanline.profiles.adapter import Adapter, Values, needs, optional, secret, text
from spanline.profiles.connection import Connection


def finish(values: Values, _connection: Connection) -> Values:
    """`TD2`, the mechanism unless another is named, needs user and password."""
    if str(values.get("logmech", "TD2")).upper() == "TD2":
        needs(values, ["username", "password"], "logmech TD2")
    return values


ADAPTERS = (
    Adapter(
        name="teradata",
        package="dbt-teradata 1.12.0",
        provider="apache-airflow-providers-teradata 3.7.1",
        fields=(
            text("server", "host", required=True, aliases=("host",)),
            text("port", "port"),  # a text, to dbt
            text("username", "login", aliases=("user", "UID")),
            secret("password", "password", aliases=("PWD",)),
            text("schema", "schema", required=True),  # dbt refuses a `database` that is another
            text("tmode", choices=("ANSI", "TERA")),
            *optional(str, "logmech query_band charset account column_name cop coplast encryptdata"),
            secret("logdata"),
            *optional(str, "fake_result_sets field_quote field_sep lob_support log max_message_body partition"),
            *optional(str, "sip_support teradata_values browser"),
            *optional(str, "sslmode sslca sslcapath sslcrc sslcipher sslprotocol oidc_sslmode"),
            *optional(str, "http_proxy http_proxy_user https_proxy https_proxy_user proxy_bypass_hosts"),
            secret("http_proxy_password"),
            secret("https_proxy_password"),
            *optional(int, "retries retry_timeout browser_tab_timeout browser_timeout sessions logon_timeout"),
            *optional(int, "https_port connect_timeout request_timeout"),
            *optional(bool, "sp_spl runstartup sslcrl sslocsp"),
        ),
        finish=finish,
    ),
)
