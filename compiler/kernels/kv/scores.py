"""Constants of attention scores, which every kernel keeps in the log2 domain."""

import math

LOG2_E = math.log2(math.e)  # turns a natural score into one of the log2 domain
NEVER = -1e30  # a hidden score; also the LSE of a row that sees no key
