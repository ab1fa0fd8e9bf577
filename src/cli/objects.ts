// `--object`: only secrets are known, for images that need one. Those are refused as unsupported when
// they are opened, so that a secret given for nothing does no harm. But it has to be a secret.

import { accessSync, constants } from 'node:fs';
import { errnoOf, ImageError, strerror } from '../errors.ts';
import { checkIdentifier } from './image-opts.ts';
import { splitOnce, splitOptions } from './option-list.ts';
import { collected } from './options.ts';

/** For options that define an object; they may be repeated. */
export const objects = collected(checkObject);

const invalid = (message: string) => new ImageError('invalid', message);

const MEMBERS = ['id', 'data', 'file', 'format', 'keyid', 'iv'];

function checkObject(text: string): void {
  const { type, members } = membersOf(text);
  if (type === '') throw invalid("Parameter 'qom-type' is missing");
  if (type !== 'secret') throw invalid(`Parameter 'qom-type' does not accept value '${type}'`);
  const id = members.get('id');
  if (id === undefined) throw invalid("Parameter 'id' is missing");
  const unknown = [...members.keys()].find((name) => !MEMBERS.includes(name));
  if (unknown !== undefined) throw invalid(`Parameter '${unknown}' is unexpected`);
  const format = members.get('format') ?? 'raw';
  if (format !== 'raw' && format !== 'base64') {
    throw invalid(`Parameter 'format' does not accept value '${format}'`);
  }
  checkIdentifier(id);
  const file = members.get('file');
  if (file === undefined && !members.has('data')) {
    throw invalid("Either 'file' or 'data' must be provided");
  }
  if (file === undefined) return;
  if (members.has('data')) throw invalid("'file' and 'data' are mutually exclusive");
  checkReadable(file);
}

/** The first member may lack its name: it is the type then. */
function membersOf(text: string): { type: string; members: ReadonlyMap<string, string> } {
  // Doubled commas count in values alone.
  if (/^[^,=]*,,/.test(text)) throw invalid("Invalid parameter ''");
  const [first = '', ...rest] = splitOptions(text);
  const listed = first.includes('=') ? [first, ...rest] : rest;
  for (const part of listed) {
    const [name] = splitOnce(part, '=');
    if (name === '') throw invalid("Invalid parameter ''");
    if (!part.includes('=')) throw invalid(`Expected '=' after parameter '${name}'`);
  }
  const members = new Map(listed.map((part) => splitOnce(part, '=')));
  const type = first.includes('=') ? (members.get('qom-type') ?? '') : first;
  members.delete('qom-type');
  return { type, members };
}

function checkReadable(file: string): void {
  try {
    accessSync(file, constants.R_OK);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    const reason = `Failed to open file “${file}”: ${strerror(errno)}`;
    throw new ImageError('io', `Unable to read ${file}: ${reason}`, { errno });
  }
}
