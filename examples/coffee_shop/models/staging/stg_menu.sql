-- depends_on: {{ ref('raw_menu') }}

select
    sku,
    item_name,
    family,
    {{ cents_to_euros('price_cents') }} as list_price,
    is_seasonal
from {{ source('till', 'menu') }}
