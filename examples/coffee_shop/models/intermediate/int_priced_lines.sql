with served as (

    select * from {{ ref('stg_orders') }}
    where order_state = 'served'

)

select
    lines.line_id,
    lines.order_id,
    served.member_id,
    served.ordered_on,
    served.branch,
    lines.sku,
    menu.family,
    lines.quantity,
    lines.quantity * menu.list_price as gross_amount,
    lines.discount,
    lines.quantity * menu.list_price - lines.discount as net_amount
from {{ ref('stg_order_lines') }} as lines
inner join served using (order_id)
inner join {{ ref('stg_menu') }} as menu using (sku)
