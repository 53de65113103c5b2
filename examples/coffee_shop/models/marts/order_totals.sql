-- An order that was not served keeps its row, with nothing earned.
with amounts as (

    select
        order_id,
        sum(quantity) as items,
        sum(gross_amount) as gross_amount,
        sum(discount) as discount,
        sum(net_amount) as net_amount
    from {{ ref('int_priced_lines') }}
    group by order_id

)

select
    orders.order_id,
    orders.member_id,
    orders.ordered_at,
    orders.ordered_on,
    orders.branch,
    orders.channel,
    orders.order_state,
    cast(coalesce(amounts.items, 0) as integer) as items,
    cast(coalesce(amounts.gross_amount, 0) as decimal(12, 2)) as gross_amount,
    cast(coalesce(amounts.discount, 0) as decimal(12, 2)) as discount,
    cast(coalesce(amounts.net_amount, 0) as decimal(12, 2)) as net_amount
from {{ ref('stg_orders') }} as orders
left join amounts using (order_id)
