// `--image-opts`: driver=qcow2,file.filename=NAME and so on, as a dictionary of options.

import { OptionDict } from '../chain/option-dict.ts';
import { ImageError } from '../errors.ts';
import { splitOnce, splitOptions } from './option-list.ts';

export interface ImageOpts {
  readonly options: OptionDict;
  /** What QEMU has to say about the way they are written. */
  readonly warnings: readonly string[];
}

/** The first word may lack its name: it is `file` then. Others without a value are switches. */
export function parseImageOpts(text: string): ImageOpts {
  const options = new OptionDict();
  const warnings: string[] = [];
  const members = splitOptions(text);
  if (members.at(-1) === '') members.pop();
  for (const [i, member] of members.entries()) {
    const [key, value] = splitOnce(member, '=');
    if (member.includes('=')) {
      if (key !== '') options.set(key, value);
    } else if (i === 0) options.set('file', member);
    else {
      const isOff = key.startsWith('no');
      const [name, state] = isOff ? [key.slice(2), 'off'] : [key, 'on'];
      options.set(name, state);
      warnings.push(
        `short-form boolean option '${key}' deprecated\nPlease use ${name}=${state} instead`,
      );
    }
  }
  if (options.get('backing') === '') {
    warnings.push('Use of "backing": "" is deprecated; use "backing": null instead');
  }
  const id = options.get('id');
  if (typeof id === 'string') checkIdentifier(id);
  return { options, warnings };
}

export function checkIdentifier(id: string): void {
  if (/^[a-z][a-z0-9._-]*$/i.test(id)) return;
  throw new ImageError(
    'invalid',
    "Parameter 'id' expects an identifier\n" +
      "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
  );
}
