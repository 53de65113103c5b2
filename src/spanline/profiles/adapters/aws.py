"""What Airflow's connections to AWS have in common."""

from __future__ import annotations

from spanline.profiles.adapter import Field, Values, Wrong

CONN_TYPE = "aws"
PROVIDER = "apache-airflow-providers-amazon 9.39.0"
IGNORED = ("config_kwargs", "service_config", "verify", "aws_domain", "driver")
REFUSED = {
    "assume_role_with_saml": "dbt assumes a role by name only",
    "assume_role_with_web_identity_federation": "dbt assumes a role by name only",
    "assume_role_with_web_identity_token_file": "dbt assumes a role by name only",
    "assume_role_with_web_identity_federation_audience": "dbt assumes a role by name only",
    "s3_config_file": "dbt does not read it: give the keys as login and password",
}
METHOD = Field("assume_role_method")


def check_method(values: Values) -> None:
    """Raise `Wrong` where a role is to be assumed as dbt can't."""
    if values.get("assume_role_method", "assume_role") != "assume_role":
        raise Wrong("assume_role_method", "is not supported by dbt, which assumes a role by name only")
