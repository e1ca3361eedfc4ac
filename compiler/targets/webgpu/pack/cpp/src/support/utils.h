// The runtime includes this header, but the parts that the pack compiles use nothing from it.
