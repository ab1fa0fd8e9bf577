// The name that stands for a node and all below it: a file's name where opening that would give the
// same tree, else its options as `json:{...}`. Pure.

import type { JsonValue } from '../json/parser.ts';
import { printJson } from '../json/printer.ts';
import type { BlockNode, DebugNode, FormatNode, NbdNode } from './blockdev.ts';

export interface NodeName {
  /** Null where no plain name means the same. */
  readonly exact: string | null;
  readonly options: { readonly [key: string]: JsonValue };
  /** What is above can be opened by this one's name alone. */
  readonly isProtocol: boolean;
}

export function nameText({ exact, options }: NodeName): string {
  return exact ?? `json:${printJson(options)}`;
}

export function fileName(driver: string, filename: string): NodeName {
  return { exact: filename, options: { filename, driver }, isProtocol: true };
}

export function nullName({ strong }: BlockNode): NodeName {
  const options = { ...Object.fromEntries(strong), driver: 'null-co' };
  return { exact: strong.size === 0 ? 'null-co://' : null, options, isProtocol: true };
}

export function nbdName({ target, strong }: NbdNode): NodeName {
  const options = { ...Object.fromEntries(strong), driver: 'nbd' };
  return { exact: target.filename, options, isProtocol: true };
}

export function debugName({ strong }: DebugNode, image: NodeName): NodeName {
  const options = { ...Object.fromEntries(strong), driver: 'blkdebug', image: image.options };
  const config = strong.get('config') ?? '';
  const isPlain = [...strong.keys()].every((key) => key === 'config') && image.exact !== null;
  return { exact: isPlain ? `blkdebug:${config}:${image.exact}` : null, options, isProtocol: true };
}

export function formatName({ driver, strong }: FormatNode, file: NodeName): NodeName {
  const options = { ...Object.fromEntries(strong), driver, file: file.options };
  const isPlain = strong.size === 0 && file.isProtocol;
  return { exact: isPlain ? file.exact : null, options, isProtocol: false };
}
