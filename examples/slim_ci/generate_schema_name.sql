{#- The schema as it is configured, in CI behind "ci_". -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ 'ci_' if target.name == 'ci' }}{{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
