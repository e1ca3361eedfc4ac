"""Benchmark artefacts beside other programs (`argosy bench`).

    workload     the requests every engine answers, and the loop that serves them in a process of its own
    worker_*     one engine each: Argosy, llama.cpp, OpenVINO GenAI
    peers        the programs to compare with, and the weights they run with
    measure      interleaved speeds, start-up times of fresh processes, memory bandwidth
    run          everything as one JSON report, which `tables` and `plot` present

Nothing here fails because something was slow.
"""
