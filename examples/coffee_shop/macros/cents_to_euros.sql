{#- The till counts in whole cents; reports speak euros. -#}
{% macro cents_to_euros(expression) -%}
    cast(({{ expression }}) / 100.0 as decimal(10, 2))
{%- endmacro %}
