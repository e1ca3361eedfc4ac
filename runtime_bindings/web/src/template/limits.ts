/** The bounds of a template's rendering: those of `runtime_bindings/chat/sandbox_budget.py`, as a test checks. */
export const LIMITS = {
  sourceCharacters: 65536,
  nodes: 10000,
  nesting: 100,
  work: 200000,
  workPerInput: 4,
  charactersPerWork: 64,
  valueCharacters: 2000000,
  valuePerInput: 4,
  valueNesting: 64,
  calls: 64,
  integer: 9007199254740991,
  formatWidth: 1000,
  precision: 100,
  range: 100000,
  lazy: 32,
};
/** Steps of a filter, method or function; a macro takes twice as many. */
export const CALL = 8;
/** Weight of a number, or of a list without its items, in characters. */
export const ITEM = 16;
