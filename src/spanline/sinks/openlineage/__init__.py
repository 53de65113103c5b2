"""OpenLineage: what a run's events are to a lineage backend, sent over openlineage-python's own transports.

`sink` sends, `translate` says which events there are and when, `facets` and `datasets` what stands in them.
"""

from spanline.sinks.openlineage.sink import OpenLineageSink
from spanline.sinks.openlineage.translate import Options, Translator

__all__ = ["OpenLineageSink", "Options", "Translator"]
