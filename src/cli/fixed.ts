// Numbers as printf prints them.

/** `%.2f`: a tie, which only eighths can make, goes to the even digit. */
export function twoDecimals(value: number): string {
  const isTie = (value * 8) % 2 === 1;
  const below = Math.floor(value * 100);
  return (isTie ? (below + (below % 2)) / 100 : value).toFixed(2);
}
