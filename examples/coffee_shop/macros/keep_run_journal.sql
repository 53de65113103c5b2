{#- On-run-end hook: add one row per invocation, counting its results. -#}
{% macro keep_run_journal(results) -%}
    {%- if execute -%}
        {%- set ns = namespace(troubled=0) -%}
        {%- for result in results if result.status in ('error', 'fail', 'skipped') -%}
            {%- set ns.troubled = ns.troubled + 1 -%}
        {%- endfor %}
create table if not exists {{ target.schema }}.run_journal (
    invocation_id varchar,
    finished_at timestamp,
    nodes integer,
    troubled integer
);

insert into {{ target.schema }}.run_journal
values (
    '{{ invocation_id }}',
    cast(current_timestamp as timestamp),
    {{ results | length }},
    {{ ns.troubled }}
);
    {%- endif -%}
{%- endmacro %}
