export const RELEASE_LINES: readonly string[];
export function fetchProgram(line: string, seconds?: number): Promise<string>;
export function nodesAtHand(
  seconds: number,
): Promise<{ readonly node: string; readonly version: string }[]>;
export function tryOut(node: string, folder: string, options: { readonly optional: boolean }): void;
