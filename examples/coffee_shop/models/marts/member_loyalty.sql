with visits as (

    select
        member_id,
        count(*) as visits,
        sum(net_amount) as spent,
        max(ordered_on) as last_visit_on
    from {{ ref('order_totals') }}
    where order_state = 'served' and member_id is not null
    group by member_id

)

select
    members.member_id,
    members.full_name,
    members.home_branch,
    members.joined_on,
    cast(coalesce(visits.visits, 0) as integer) as visits,
    cast(coalesce(visits.spent, 0) as decimal(12, 2)) as spent,
    visits.last_visit_on,
    case
        when visits.spent >= 15 then 'gold'
        when visits.spent >= 5 then 'silver'
        when visits.spent > 0 then 'bronze'
        else 'new'
    end as tier
from {{ ref('stg_members') }} as members
left join visits using (member_id)
