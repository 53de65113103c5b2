-- depends_on: {{ ref('raw_order_lines') }}

select
    line_id,
    order_id,
    sku,
    quantity,
    {{ cents_to_euros('discount_cents') }} as discount
from {{ source('till', 'order_lines') }}
