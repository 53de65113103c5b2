-- depends_on: {{ ref('raw_members') }}

select
    member_id,
    full_name,
    lower(trim(email)) as email,
    joined_on,
    home_branch
from {{ source('till', 'members') }}
