// Findings of a check as a list that is bounded.

import type { Finding } from './check.ts';

/** The first findings that are told. */
export function collectFindings(maxFindings: number): {
  readonly findings: readonly Finding[];
  readonly tell: (message: string, kind: Finding['kind']) => void;
} {
  const findings: Finding[] = [];
  const tell = (message: string, kind: Finding['kind']) => {
    if (findings.length < maxFindings) findings.push({ kind, message });
  };
  return { findings, tell };
}
