/** Format bytes, seconds and rates for people, the same way as the command line. */

/** Format bytes in decimal units: `humanSize(81_200_000) === "81.2 MB"`. */
export function humanSize(bytes: number): string {
  const size = Number.isFinite(bytes) ? Math.max(0, bytes) : 0;
  if (size < 1000) return `${Math.round(size)} B`;
  let amount = size;
  for (const unit of ["kB", "MB", "GB"]) {
    amount /= 1000;
    if (amount < 999.95) return `${amount.toFixed(1)} ${unit}`;
  }
  return `${(amount / 1000).toFixed(1)} TB`;
}

/** Format seconds: `0.004 -> "4 ms"`, `1.31 -> "1.3 s"`, `125 -> "2 min 5 s"`. */
export function humanTime(seconds: number): string {
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return wholeTime(Math.round(seconds));
}

/** Format the seconds left to wait, rounded to what people can use: `0.3 -> "1 s"`, `11.6 -> "12 s"`, `125 -> "2 min 5 s"`. */
export function timeLeft(seconds: number): string {
  return wholeTime(Math.max(1, Math.ceil(seconds)));
}

/** Format tokens per second with at most three digits: `"0.42"`, `"8.3"`, `"27.9"`, `"143"`. */
export function humanRate(rate: number): string {
  if (rate < 0.995) return rate.toFixed(2);
  return rate < 99.95 ? rate.toFixed(1) : rate.toFixed(0);
}

/** Format a count with its noun: `counted(1, "token") === "1 token"`, `counted(1200, "token") === "1,200 tokens"`. */
export function counted(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

/** Format whole seconds: `12 -> "12 s"`, `125 -> "2 min 5 s"`. */
export function wholeTime(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
