// An image on a web server as a Storage: read by range requests, never written. What it does not have
// (locks, writing) it says it does not have; `storageContract` of `qimg-ts/testing` tries the rest.

import { ImageError, type Storage, type StorageExtent } from 'qimg-ts';

/** Opens what is at `url`. Rejects with `not-found`, `unsupported` (no range requests) or `io`. */
export async function openHttpStorage(url: string): Promise<HttpStorage> {
  const response = await request(url, { method: 'HEAD' });
  const length = response.headers.get('content-length');
  if (response.headers.get('accept-ranges') !== 'bytes' || length === null) {
    throw new ImageError('unsupported', `${url}: the server takes no range requests`);
  }
  return new HttpStorage(url, Number(length));
}

export class HttpStorage implements Storage {
  readonly filename: string;
  readonly size: number;
  readonly writable = false;
  readonly resizable = false;
  readonly growsZeroed = false;

  constructor(url: string, size: number) {
    this.filename = url;
    this.size = size;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const length = Math.max(0, Math.min(target.length, this.size - offset));
    if (length > 0) {
      const range = `bytes=${offset}-${offset + length - 1}`;
      const response = await request(this.filename, { headers: { range } });
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (response.status !== 206 || bytes.length !== length) {
        throw new ImageError('io', `${this.filename}: asked for ${range}, got something else`);
      }
      target.set(bytes);
    }
    target.fill(0, length);
  }

  /** Nobody tells us where there are holes. */
  async extentAt(): Promise<StorageExtent> {
    return { data: true, end: this.size };
  }

  async allocatedBytes(): Promise<number> {
    return this.size;
  }

  /** Nobody can lock it; nobody should change it, either. */
  async lock(): Promise<void> {}
  async flush(): Promise<void> {}
  async close(): Promise<void> {}

  write = readOnly;
  zero = readOnly;
  discard = readOnly;
  copyFrom = readOnly;
  resize = readOnly;
  makeWritable = readOnly;
}

async function readOnly(): Promise<never> {
  throw new ImageError('read-only', 'An image on a web server can not be written to');
}

async function request(url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, init).catch((cause: unknown) => {
    throw new ImageError('io', `${url}: the server can not be reached`, { cause });
  });
  if (response.ok) return response;
  const code = response.status === 404 ? 'not-found' : 'io';
  throw new ImageError(code, `${url}: ${response.status} ${response.statusText}`);
}
