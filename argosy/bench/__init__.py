"""`argosy bench`: artefacts and the names of other programs go in, their speed side by side, as a report, comes out.

    workload     what is asked of every engine, and the loop that answers it in a process of its own
    worker_*     one engine each: Argosy, llama.cpp, OpenVINO GenAI
    peers        which programs there are, and with which weights they run beside which artefact
    measure      engines take turns, request by request; fresh processes are timed; memory bandwidth
    report       all of it as one JSON object, `tables` and `plot` show it

Nothing here fails because something was slow.
"""
