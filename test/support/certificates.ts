// An authority and certificates by openssl, by the names that QEMU gives the files.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustIn } from './qemu.ts';

/** Fills a directory: a server for `localhost`, a client. */
export async function makeCertificates(dir: string): Promise<void> {
  mkdirSync(dir, { recursive: true });
  const openssl = (...args: readonly string[]) => mustIn(dir, 'openssl', ...args);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const authority = ['-addext', 'basicConstraints=critical,CA:true'];
  const usage = ['-addext', 'keyUsage=critical,keyCertSign'];
  const about = ['-subj', '/CN=authority', '-days', '30', '-keyout', 'ca-key.pem'];
  await openssl('req', '-x509', ...key, ...about, ...authority, ...usage, '-out', 'ca-cert.pem');
  for (const [serial, name] of [
    ['1', 'server'],
    ['2', 'client'],
  ] as const) {
    const request = `${name}.csr`;
    const [keyFile, certFile] = [`${name}-key.pem`, `${name}-cert.pem`];
    await openssl(
      'req',
      '-new',
      ...key,
      '-subj',
      `/CN=${name}`,
      '-keyout',
      keyFile,
      '-out',
      request,
    );
    const extensions = join(dir, `${name}.ext`);
    writeFileSync(
      extensions,
      `subjectAltName=DNS:localhost,IP:127.0.0.1\nkeyUsage=digitalSignature\n` +
        `extendedKeyUsage=${name}Auth\n`,
    );
    const by = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-set_serial', serial];
    const what = ['-in', request, '-days', '30', '-extfile', extensions, '-out', certFile];
    await openssl('x509', '-req', ...by, ...what);
  }
}
