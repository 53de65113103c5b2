-- depends_on: {{ ref('raw_orders') }}

select
    order_id,
    member_id,
    ordered_at,
    cast(ordered_at as date) as ordered_on,
    branch,
    channel,
    state as order_state
from {{ source('till', 'orders') }}
