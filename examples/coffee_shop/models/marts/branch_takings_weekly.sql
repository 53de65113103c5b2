select
    branch,
    cast(date_trunc('week', ordered_on) as date) as week_starting,
    cast(count(*) as integer) as orders,
    cast(count(distinct member_id) as integer) as members_seen,
    cast(sum(net_amount) as decimal(12, 2)) as takings
from {{ ref('order_totals') }}
where order_state = 'served'
group by all
