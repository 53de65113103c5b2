-- Both marts count the same lines, so every day must agree; a row is a day
-- that does not. Money is left out: after a price change the incremental mart
-- keeps the old price on the days it has already loaded.
with by_order as (

    select ordered_on as day, sum(items) as items
    from {{ ref('order_totals') }}
    where order_state = 'served'
    group by ordered_on

),

by_item as (

    select sold_on as day, sum(items) as items
    from {{ ref('item_sales_daily') }}
    group by sold_on

)

select
    day,
    by_order.items as order_items,
    by_item.items as sold_items
from by_order
full outer join by_item using (day)
where by_order.items is distinct from by_item.items
