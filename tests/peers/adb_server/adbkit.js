// STF's client of the adb server. Prints what it saw, or fails with what was wrong: adbkit.js FAMILY PORT APKS FOLDER
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const net = require('net');
const path = require('path');
const { Readable } = require('stream');
const { Adb } = require('@devicefarmer/adbkit');

const [family, port, apks, folder] = process.argv.slice(2);
const client = Adb.createClient({ host: '127.0.0.1', port: Number(port) });
const noise = crypto.createHash('shake256', { outputLength: (2 << 20) + 7 }).update('noise').digest();

const all = (stream) => Adb.util.readAll(stream);
const ended = (transfer) => new Promise((resolve, reject) => transfer.on('end', resolve).on('error', reject));

const families = {
  async lists() {
    assert.strictEqual(await client.version(), 41);
    const devices = await client.listDevices();
    assert.deepStrictEqual(devices.map((device) => device.type), ['device', 'device', 'device']);
    assert.strictEqual((await client.listDevicesWithPaths()).length, 3);
    const device = client.getDevice('A1');
    assert.strictEqual(await device.getState(), 'device');
    assert.ok(devices.some((known) => known.id === 'PEER0001'));
    // adbkit 3.3.9 asks for the path in both.
    assert.strictEqual(await device.getSerialNo(), await device.getDevicePath());
    assert.strictEqual((await client.getDevice('A2').getFeatures())['android.hardware.wifi'], true);
    await device.waitForDevice();
    // By its own promises: the list is there at once, and `await` would listen too late.
    const first = await client.trackDevices().then(
      (tracker) =>
        new Promise((resolve) =>
          tracker.once('add', (added) => {
            tracker.end();
            resolve(added);
          }),
        ),
    );
    assert.strictEqual(first.type, 'device');
    return `${devices.length} phones`;
  },

  async shell() {
    const device = client.getDevice('A1');
    assert.strictEqual((await all(await device.shell('echo hello'))).toString(), 'hello\n');
    assert.strictEqual((await all(await device.shell(['echo', "it's"]))).toString(), "it's\n");
    const properties = await client.getDevice('A2').getProperties();
    assert.strictEqual(properties['ro.product.model'], 'Pixel 4a');
    return 'shell, properties';
  },

  async sync() {
    const device = client.getDevice('A1');
    const there = '/data/local/tmp/adbkit';
    await ended(await device.push(Readable.from([noise]), there));
    assert.strictEqual((await device.stat(there)).size, noise.length);
    const pulled = await device.pull(there);
    assert.ok((await all(pulled)).equals(noise), 'the bytes differ');
    const listed = (await device.readdir('/data/local/tmp')).map((entry) => entry.name);
    assert.ok(listed.includes('adbkit'), listed.join());
    await all(await device.shell(`rm ${there}`));
    const picture = await all(await client.getDevice('A2').screencap());
    assert.strictEqual(picture.subarray(1, 4).toString(), 'PNG');
    return `${noise.length} bytes there and back`;
  },

  async install() {
    const device = client.getDevice('A2');
    assert.ok(await device.install(path.join(apks, 'agent-1.apk')));
    assert.ok(await device.isInstalled('org.example.agent'));
    assert.deepStrictEqual(await device.getPackages(), ['org.example.agent']);
    assert.ok(await device.uninstall('org.example.agent'));
    assert.ok(!(await device.isInstalled('org.example.agent')));
    return 'installed and gone';
  },

  async forward() {
    const device = client.getDevice('A1');
    const echo = net.createServer((socket) => socket.pipe(socket));
    await new Promise((resolve) => echo.listen(0, '127.0.0.1', resolve));
    const to = `tcp:${echo.address().port}`;
    await device.forward('tcp:17557', to);
    assert.deepStrictEqual((await device.listForwards()).map((f) => [f.local, f.remote]), [['tcp:17557', to]]);
    assert.ok(await echoes(17557), 'a forward carries bytes');
    await device.reverse('tcp:17558', to);
    assert.deepStrictEqual((await device.listReverses()).map((r) => [r.remote, r.local]), [['tcp:17558', to]]);
    assert.ok(await echoes(17558), 'a tunnel carries bytes');
    const direct = await device.openTcp(echo.address().port);
    direct.write('ping');
    const back = await new Promise((resolve) => direct.once('data', resolve));
    assert.strictEqual(back.toString(), 'ping');
    direct.end();
    echo.close();
    return 'forward, tunnel and socket';
  },

  async logs() {
    const device = client.getDevice('A2');
    const log = await device.openLogcat();
    const entry = await new Promise((resolve, reject) => log.once('entry', resolve).once('error', reject));
    log.end();
    return `a line of ${entry.tag}`;
  },
};

function echoes(to) {
  return new Promise((resolve, reject) => {
    const parts = [];
    let count = 0;
    const socket = net.connect(to, '127.0.0.1', () => socket.write(noise));
    socket.on('error', reject).on('data', (data) => {
      parts.push(data);
      count += data.length;
      if (count === noise.length) {
        socket.destroy();
        resolve(Buffer.concat(parts).equals(noise));
      }
    });
  });
}

families[family]().then(
  (seen) => {
    console.log(seen);
    process.exit(0);
  },
  (wrong) => {
    console.error(wrong.stack);
    process.exit(1);
  },
);
