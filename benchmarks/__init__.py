"""How fast fanout is: the workloads of docs, measured through its public way in. `python -m benchmarks` lists them."""
