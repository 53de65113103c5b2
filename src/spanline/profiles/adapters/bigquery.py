"""BigQuery: by a service account's key (a file, or its JSON), by what Google's libraries find, or by OAuth."""

from __future__ import annotations

from spanline.profiles.adapter import (
    Adapter,
    Field,
    Values,
    Wrong,
    integer,
    mapping,
    needs,
    one_of,
    optional,
    secret,
    text,
    texts,
)
from spanline.profiles.connection import Connection

_METHODS = ("oauth", "oauth-secrets", "service-account", "service-account-json", "external-oauth-wif")


def finish(values: Values, _connection: Connection) -> Values:
    """The method follows from the fields given (`oauth` without a key), and the project from the key's JSON."""
    if "keyfile" in values or "keyfile_json" in values:
        implied = {"keyfile": "service-account", "keyfile_json": "service-account-json"}
        values.setdefault("method", implied[one_of(values, "keyfile", "keyfile_json")])
    method = values.setdefault("method", "oauth")
    if method == "service-account":
        needs(values, ["keyfile"], str(method))
    elif method == "service-account-json":
        needs(values, ["keyfile_json"], str(method))
    elif method == "external-oauth-wif":
        needs(values, ["workload_pool_provider_path", "token_endpoint"], str(method))
    elif method == "oauth-secrets" and "token" not in values:
        needs(values, ["refresh_token", "client_id", "client_secret", "token_uri"], str(method))
    key = values.get("keyfile_json")
    if isinstance(key, dict):
        values.setdefault("database", key.get("project_id"))
        if isinstance(key.get("private_key"), str):
            values["keyfile_json"] = {**key, "private_key": key["private_key"].replace("\\n", "\n")}
    chain = values.pop("impersonation_chain", None)
    if isinstance(chain, list) and len(chain) > 1:
        raise Wrong("impersonation_chain", "has several accounts, and dbt-bigquery impersonates one")
    if isinstance(chain, list) and chain:
        values.setdefault("impersonate_service_account", chain[0])
    return values


ADAPTERS = (
    Adapter(
        name="bigquery",
        package="dbt-bigquery 1.12.1",
        provider="apache-airflow-providers-google 22.1.0",
        conn_types=("gcpbigquery", "google_cloud_platform"),
        fields=(
            text("method", choices=_METHODS),
            text("database", required=True, aliases=("project",)),
            text("schema", "schema", required=True, aliases=("dataset",)),
            text("keyfile", "key_path"),
            mapping("keyfile_json", "keyfile_dict"),
            secret("token"),
            secret("refresh_token"),
            text("client_id"),
            secret("client_secret"),
            text("token_uri"),
            Field("token_endpoint", kind=dict[str, str], secret=True),
            *optional(str, "workload_pool_provider_path service_account_impersonation_url"),
            text("impersonate_service_account"),
            text("execution_project"),
            text("quota_project", "quota_project_id"),
            text("location"),
            text("priority", choices=("interactive", "batch")),
            texts("scopes", "scope"),
            integer("job_retries", "num_retries", aliases=("retries",)),
            integer("job_execution_timeout_seconds", aliases=("timeout_seconds",)),
            text("compute_region", aliases=("dataproc_region",)),
            *optional(int, "maximum_bytes_billed job_retry_deadline_seconds job_creation_timeout_seconds"),
            *optional(str, "api_endpoint reservation dataproc_cluster_name gcs_bucket submission_method"),
            mapping("dataproc_batch"),
            *optional(bool, "job_link_info_level_log"),
            text("credential_config_file", variable="GOOGLE_APPLICATION_CREDENTIALS"),
        ),
        inputs=(texts("impersonation_chain"),),
        finish=finish,
        ignored=("api_resource_configs", "labels"),
        refused={
            "key_secret_name": "not supported: give keyfile_dict, which Airflow can keep in a secret manager",
            "key_secret_project_id": "dbt-bigquery does not read secret managers: give keyfile_dict",
            "is_anonymous": "dbt-bigquery has no anonymous access",
            "idp_issuer_url": "dbt-bigquery does not support client credentials: see its method external-oauth-wif",
            "idp_extra_params": "dbt-bigquery does not support client credentials",
            "use_legacy_sql": "dbt writes GoogleSQL",
        },
    ),
)
