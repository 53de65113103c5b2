"""What tells a secret: names in both directions, and which values can be told from other text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spanline.runner.shared.in_text import MASK, stems
from spanline.runner.shared.masking import Redactor
from spanline.runner.shared.settings import SECRET_NAMES
from spanline.runner.shared.telling import looks_secret, own_names, stands_apart


def names(*lines: str) -> list[str]:
    return " ".join(lines).split()


SECRET = names(
    "password PASSWORD db_password dbPassword DB-PASSWORD db.password password2 password_prod PGPASSWORD userPassword",
    "passwd mysql_passwd passphrase SNOWFLAKE_PRIVATE_KEY_PASSPHRASE passcode pass db_pass DB_PASS_DEV",
    "pwd db_pwd DBPWD",
    "secret secrets client_secret clientSecret clientsecret AZURE_CLIENT_SECRET AWS_SECRET_ACCESS_KEY secret_key_base",
    "s3_secret_access_key SECRET_VALUE",
    "token GITHUB_TOKEN service.token motherduck_token authToken id_token token2 refresh_tokens",
    "pat PAT github_pat SNOWFLAKE_PAT_PROD azureDevOpsPAT",
    "credential credentials gcp-credentials aws_creds creds",
    "dsn SENTRY_DSN conn_str connStr CONNSTR conn_string DATABASE_CONNECTION_STRING ConnectionString",
    "api-key API_KEY apikey apiKey x-api-key access_key AccountKey private_key SharedAccessKey signing_key",
    "master_key AIRFLOW__CORE__FERNET_KEY SharedAccessSignature keyfile_json STORAGE_SAS sas_token jwt",
    "auth http_auth Authorization auth_header größe_password",
    "DBT_ENV_SECRET DBT_ENV_SECRET_ANYTHING DBT_ENGINE_SECRET_SCHEMA DBT_ENV_SECRET_PATH",
)

NO_SECRET = names(
    "PWD OLDPWD größe",
    "path PATH pattern patient patch dispatch compatible spatial pat_id",
    "author authors authority authored_by authentication authenticator auth_flow auth_type auth_method auth_url",
    "SSH_AUTH_SOCK SSH_AUTH_SOCK_PATH",
    "token_type token_url token_count max_token_length tokenizer tokens max_tokens prompt_tokens",
    "password_column password_columns password_field password_file password_policy password_expires_at",
    "secret_id secret_name secret_arn secretary secret_type client_secret_expires_at SECRETS_BACKEND",
    "pass_rate pass_threshold pass_through passthrough passed passing passenger_count compass bypass boarding_passes",
    "private_key_path private_key_file public_key primary_key unique_key foreign_key surrogate_key customer_key",
    "key keys",
    "keyboard monkey AWS_ACCESS_KEY_ID api_key_id",
    "GOOGLE_CREDENTIALS_FILE credentials_path credit accredited",
    "connection connection_name reconnect dsn_name description",
    "sasquatch case asap",
    "DBT_TARGET DBT_PROFILES_DIR start_date schema",
)


@pytest.fixture
def _own_names_are_read_again() -> Iterator[None]:
    for read in (own_names, stems):
        read.cache_clear()
    yield
    for read in (own_names, stems):
        read.cache_clear()


@pytest.mark.parametrize("name", SECRET)
def test_names_of_secrets_are_known(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", NO_SECRET)
def test_names_of_other_things_are_no_secrets(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.usefixtures("_own_names_are_read_again")
def test_names_of_ones_own_are_added_to_those_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_NAMES, "*_webhook_url, Lock_Combination pin")
    for name in ("SLACK_WEBHOOK_URL", "lock_combination", "LOCK_COMBINATION", "PIN", "password"):
        assert looks_secret(name)
    for name in ("webhook", "slack_webhook_url_count", "combination", "pin_code"):
        assert not looks_secret(name)
    said = "create hook (url 'x', Team_Webhook_URL 'https://example.com/x', combination '1')"
    assert Redactor().text(said) == said.replace("https://example.com/x", MASK)


@pytest.mark.parametrize(
    "value",
    ["hunter2", "s3cr3t", "hush-of-vars", "aBcDeFgH", "ab cd ef", "abcdefghijklmnop", "1234567890123456", "p@ss_w"],
)
def test_a_value_that_is_no_word_and_no_number_stands_apart(value: str) -> None:
    assert stands_apart(value)


@pytest.mark.parametrize(
    "value",
    [
        *("", "id", "ab1!", "p@ssw", "true", "0000", "482913", "2024-01-01", "1.10.16", "192.168.10.10", "------"),
        *(
            "customers",
            "CUSTOMERS",
            "Customers",
            "customer_id",
            "raw_orders",
            "größe_in_m",
            "select",
            "externalbrowser",
        ),
    ],
)
def test_a_value_that_is_short_or_a_word_or_a_number_does_not(value: str) -> None:
    assert not stands_apart(value)
