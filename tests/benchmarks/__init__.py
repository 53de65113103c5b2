"""What spanline costs: the same generated dbt project, run plainly and under spanline, paired and interleaved.

    python -m tests.benchmarks --models 1000 --repeat 6 --dbt-ol /path/to/dbt-ol

Not collected by pytest: it measures, and takes as long as it takes. Nothing else should run on the machine meanwhile.
"""
