// TLS, both ways: what is required, who is let in, and that nothing said in plain text counts.

import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { nodeHost, withNbd } from '../../src/nbd/node-host.ts';
import { infoRequest, optionRequest } from '../../src/nbd/options.ts';
import * as spec from '../../src/nbd/spec.ts';
import { serverTls, type TlsCredentials } from '../../src/nbd/tls.ts';
import { loadTlsCredentials } from '../../src/nbd/tls-files.ts';
import { makeCertificates } from '../support/certificates.ts';
import { serveFile } from '../support/nbd.ts';
import { RawClient } from '../support/nbd-bytes.ts';
import { must, qemuImg, qemuIo, run } from '../support/qemu.ts';
import { qemuNbd } from '../support/qemu-nbd.ts';
import { makeTemp, tempDir } from '../support/temp.ts';

let certificates = '';
let strangers = '';

beforeAll(async () => {
  const { dir, cleanup } = makeTemp();
  [certificates, strangers] = [join(dir, 'ours'), join(dir, 'theirs')];
  await Promise.all([certificates, strangers].map(makeCertificates));
  return cleanup;
});

const credentials = (endpoint: 'server' | 'client', dir = certificates, verifyPeer = true) =>
  loadTlsCredentials({ dir, endpoint, verifyPeer });

async function disk(): Promise<string> {
  const file = join(tempDir(), 'disk.qcow2');
  await qemuImg('create', '-q', '-f', 'qcow2', file, '8M');
  await qemuIo(file, ['write -P 7 1M 1M']);
  return file;
}

async function serveSecure(verifyPeer = true) {
  const startTls = serverTls(credentials('server', certificates, verifyPeer));
  const address = { type: 'inet', host: '127.0.0.1', port: 0 } as const;
  const served = await serveFile(await disk(), { server: { startTls, address } });
  const bound = served.server.address;
  if (bound.type !== 'inet') throw new Error('no port');
  return { ...served, port: String(bound.port) };
}

function options(port: string, more: Readonly<Record<string, string>> = {}): string {
  const all = { driver: 'nbd', 'server.type': 'inet', 'server.host': 'localhost' };
  const whole = { ...all, 'server.port': port, 'tls-creds': 'c', ...more };
  return Object.entries(whole)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

const clientObject = (dir: string) => `tls-creds-x509,id=c,endpoint=client,dir=${dir}`;

describe('a server with credentials', () => {
  test('serves QEMU and libnbd by TLS', async () => {
    const { port } = await serveSecure();
    const secure = ['--object', clientObject(certificates), '--image-opts', options(port)];
    expect(await qemuImg('info', ...secure)).toContain('virtual size: 8 MiB');
    const copy = join(tempDir(), 'copy.raw');
    const uri = `nbds://localhost:${port}/?tls-certificates=${certificates}`;
    await must('nbdcopy', uri, copy);
    await qemuIo(copy, ['read -P 7 1M 1M', 'read -P 0 2M 6M'], 'raw');
  });

  test('tells clients without TLS nothing', async () => {
    const { port } = await serveSecure();
    const { code, stderr } = await run('qemu-img', ['info', `nbd://127.0.0.1:${port}`]);
    expect({ code, stderr: stderr.split('\n')[0] }).toEqual({
      code: 1,
      stderr:
        `qemu-img: Could not open 'nbd://127.0.0.1:${port}': ` +
        'TLS negotiation required before option 7 (go)',
    });
  });

  test('lets no strangers in, and goes on', async () => {
    const { port } = await serveSecure();
    const stranger = ['--object', clientObject(strangers), '--image-opts', options(port)];
    expect((await run('qemu-img', ['info', ...stranger])).code).toBe(1);
    const friend = ['--object', clientObject(certificates), '--image-opts', options(port)];
    expect((await run('qemu-img', ['info', ...friend])).code).toBe(0);
  });

  test('asks nobody who he is, where told so', async () => {
    const { port } = await serveSecure(false);
    const object = `${clientObject(strangers)},verify-peer=off`;
    const { code } = await run('qemu-img', [
      'info',
      '--object',
      object,
      '--image-opts',
      options(port),
    ]);
    expect(code).toBe(0);
  });

  test('without TLS hears of STARTTLS and ABORT alone', async () => {
    const startTls = serverTls(credentials('server'));
    const { socket } = await serveFile(await disk(), { server: { startTls } });
    const client = await RawClient.greeted(socket);
    for (const option of [spec.NBD_OPT_LIST, spec.NBD_OPT_STRUCTURED_REPLY, spec.NBD_OPT_GO]) {
      const [reply] = await client.option(option, infoRequest({ name: '', infos: [] }));
      expect(reply?.type).toBe(spec.NBD_REP_ERR_TLS_REQD);
    }
    client.send(optionRequest(spec.NBD_OPT_EXPORT_NAME, new Uint8Array()));
    await client.ended();
    const other = await RawClient.greeted(socket);
    expect((await other.option(spec.NBD_OPT_ABORT))[0]?.type).toBe(spec.NBD_REP_ERR_TLS_REQD);
    await other.ended();
  });

  test('ends a connection where plain text follows STARTTLS, or no TLS does', async () => {
    const startTls = serverTls(credentials('server'));
    const { socket, server } = await serveFile(await disk(), { server: { startTls } });
    const starttls = optionRequest(spec.NBD_OPT_STARTTLS, new Uint8Array());
    const client = await RawClient.greeted(socket);
    client.send(starttls, optionRequest(spec.NBD_OPT_LIST, new Uint8Array()));
    await client.ended();
    const other = await RawClient.greeted(socket);
    await other.option(spec.NBD_OPT_STARTTLS);
    other.send(new Uint8Array(1000).fill(65));
    await other.ended();
    const third = await RawClient.greeted(socket);
    await third.option(spec.NBD_OPT_STARTTLS);
    third.socket.destroy();
    while (server.connections > 0) await new Promise((resolve) => setTimeout(resolve, 2));
  });
});

describe('our client', () => {
  async function foreign(): Promise<{ readonly socket: string }> {
    const object = `tls-creds-x509,id=s,endpoint=server,dir=${certificates}`;
    return await qemuNbd(await disk(), ['-f', 'qcow2', '--object', object, '--tls-creds=s']);
  }

  async function open(
    socket: string,
    found: TlsCredentials | undefined,
    hostname: string | undefined = 'localhost',
  ) {
    const host = withNbd(nodeHost, found && (async () => found));
    const description = {
      driver: 'nbd',
      server: { type: 'unix', path: socket },
      ...(found !== undefined && { 'tls-creds': 'c' }),
      ...(hostname !== undefined && { 'tls-hostname': hostname }),
    };
    const chain = await openChain(description, { host });
    onTestFinished(() => chain.close());
    return chain;
  }

  test('reaches a server of QEMU', async () => {
    const { socket } = await foreign();
    const chain = await open(socket, credentials('client'));
    const bytes = new Uint8Array(4096);
    await chain.top.read(1024 * 1024, bytes);
    expect(bytes.every((byte) => byte === 7)).toBe(true);
  });

  test('takes names of libnbd', async () => {
    const { port } = await serveSecure();
    const uri = `nbds://localhost:${port}/?tls-certificates=${certificates}`;
    const chain = await openChain(uri, { host: nodeHost });
    onTestFinished(() => chain.close());
    expect(chain.at(0).name).toBe(`nbds://localhost:${port}?tls-certificates=${certificates}`);
    const { socket } = await foreign();
    const place = `socket=${socket}&tls-certificates=${certificates}`;
    const named = await openChain(`nbds+unix:///?${place}&tls-hostname=localhost`, {
      host: nodeHost,
    });
    onTestFinished(() => named.close());
    expect(named.size).toBe(8 * 1024 * 1024);
    await expect(openChain(`nbds+unix:///?${place}`, { host: nodeHost })).rejects.toThrow(
      'No hostname for certificate validation',
    );
    await expect(openChain(`nbds://localhost:${port}/`, { host: nodeHost })).rejects.toThrow(
      'TLS handshake failed',
    );
  });

  test('trusts no server of another name, nor of another authority', async () => {
    const { socket } = await foreign();
    const fails = (message: string) =>
      expect.objectContaining({ message: expect.stringContaining(message) });
    await expect(open(socket, credentials('client'), 'elsewhere')).rejects.toEqual(
      fails('Certificate does not match the hostname elsewhere'),
    );
    await expect(open(socket, credentials('client', strangers))).rejects.toEqual(
      fails('TLS handshake failed'),
    );
    await expect(open(socket, credentials('server'))).rejects.toEqual(
      fails('Expected TLS credentials for a client endpoint'),
    );
    await expect(open(socket, undefined)).rejects.toEqual(fails('TLS negotiation required'));
  });

  test('is told where a server has no TLS', async () => {
    const { socket } = await serveFile(await disk());
    await expect(open(socket, credentials('client'))).rejects.toEqual(
      expect.objectContaining({
        message: expect.stringContaining(
          'Denied by server for option 5 (starttls)\nserver reported: TLS not configured',
        ),
      }),
    );
  });
});
