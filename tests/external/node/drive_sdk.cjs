// Drives local Daytona with Daytona's TypeScript SDK, unmodified; prints one JSON object of what came back.
const { Daytona } = require("@daytona/sdk");

async function processes(sandbox, out) {
  const ended = await sandbox.process.executeCommand("echo $A; exit 3");
  out.exec = [ended.exitCode, ended.result];
  out.code = (await sandbox.process.codeRun("print(6 * 7)")).result;
  await sandbox.process.createSession("s");
  const job = await sandbox.process.executeSessionCommand("s", { command: "echo one; echo two >&2", runAsync: true });
  const streams = ["", ""];
  await sandbox.process.getSessionCommandLogs("s", job.cmdId, (text) => (streams[0] += text), (text) => (streams[1] += text));
  out.streams = streams;
  out.interpreter = (await sandbox.codeInterpreter.runCode("x = 1\nprint(x + 1)")).stdout;
  const terminal = await sandbox.process.createPty({ id: "p", onData: () => {} });
  await terminal.waitForConnection();
  await terminal.sendInput("exit 5\n");
  out.terminal = (await terminal.wait()).exitCode;
}

async function files(sandbox, out) {
  await sandbox.fs.uploadFile(Buffer.from("hello"), "folder/a ü.txt");
  out.file = (await sandbox.fs.downloadFile("folder/a ü.txt")).toString();
  out.names = (await sandbox.fs.listFiles("folder")).map((found) => found.name);
  out.found = (await sandbox.fs.findFiles("folder", "ell")).length;
  await sandbox.process.executeCommand("git init -q -b trunk r && cd r && git -c user.name=a -c user.email=b commit -q --allow-empty -m x");
  await sandbox.git.clone("/home/daytona/r", "c");
  out.branch = (await sandbox.git.status("c")).currentBranch;
}

async function preview(sandbox, out) {
  await sandbox.process.createSession("web");
  await sandbox.process.executeSessionCommand("web", { command: "python3 -m http.server 8000", runAsync: true });
  const link = await sandbox.getPreviewLink(8000);
  for (let tries = 0; tries < 100; tries++) {
    const answer = await fetch(link.url, { headers: { "x-daytona-preview-token": link.token } });
    out.preview = answer.status;
    if (answer.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function main() {
  const daytona = new Daytona();
  const out = {};
  const sandbox = await daytona.create({ envVars: { A: "box" }, ttlMinutes: 30 });
  try {
    await processes(sandbox, out);
    await files(sandbox, out);
    await preview(sandbox, out);
    const volume = await daytona.volume.get("from-typescript", true);
    out.volume = volume.state;
    await daytona.volume.delete(volume);
    out.snapshots = (await daytona.snapshot.list()).items.map((found) => found.name);
    await sandbox.stop();
    await sandbox.start();
    out.kept = (await sandbox.fs.downloadFile("folder/a ü.txt")).toString();
  } finally {
    await sandbox.delete();
  }
  console.log(JSON.stringify(out));
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
