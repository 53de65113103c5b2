{{
    config(
        materialized='incremental',
        incremental_strategy='delete+insert',
        unique_key=['sold_on', 'sku'],
        tags=['daily']
    )
}}

select
    ordered_on as sold_on,
    sku,
    family,
    cast(sum(quantity) as integer) as items,
    cast(sum(net_amount) as decimal(12, 2)) as net_amount
from {{ ref('int_priced_lines') }}

{% if is_incremental() %}
-- The last day loaded may have been incomplete: count it again.
where ordered_on >= (
    select coalesce(max(sold_on), date '1900-01-01') from {{ this }}
)
{% endif %}

group by ordered_on, sku, family
