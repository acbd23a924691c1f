'use strict';
// The peer of `make bench`: a file service as it is commonly written on Node. Multipart bodies go
// to disk through multer, rows to SQLite through better-sqlite3 in WAL mode, downloads through
// res.sendFile. HOST, PORT, DATA_DIR and PROCESSES come from the environment.

const cluster = require('node:cluster');
const crypto = require('node:crypto');
const path = require('node:path');
const fs = require('node:fs');
const express = require('express');
const multer = require('multer');
const Database = require('better-sqlite3');

const HOST = process.env.HOST || '127.0.0.1';
const PORT = Number(process.env.PORT || 3000);
const DATA_DIR = path.resolve(process.env.DATA_DIR || './data');
const PROCESSES = Number(process.env.PROCESSES || 1);
const MAX_FILE_SIZE = 50 * 1024 * 1024;

function openDatabase() {
  const db = new Database(path.join(DATA_DIR, 'files.db'));
  db.pragma('busy_timeout = 5000');
  db.pragma('journal_mode = WAL');
  db.exec(`CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, original_name TEXT NOT NULL, mime_type TEXT NOT NULL,
    size INTEGER NOT NULL, path TEXT NOT NULL, created_at TEXT NOT NULL)`);
  return db;
}

function createApp(db) {
  const insert = db.prepare('INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)');
  const select = db.prepare('SELECT * FROM files WHERE id = ?');
  const storage = multer.diskStorage({
    destination: path.join(DATA_DIR, 'files'),
    filename: (req, file, done) => done(null, crypto.randomUUID()),
  });
  const upload = multer({ storage, limits: { fileSize: MAX_FILE_SIZE, files: 1 } });

  const app = express();
  app.disable('x-powered-by');
  app.get('/ready', (req, res) => res.json({ status: 'ok' }));
  app.post('/upload', upload.single('file'), (req, res) => {
    const { filename, originalname, mimetype, size } = req.file;
    const createdAt = new Date().toISOString();
    insert.run(filename, originalname, mimetype, size, filename, createdAt);
    res.status(201).location(`/files/${filename}`);
    res.json({ id: filename, originalName: originalname, mimeType: mimetype, size, createdAt });
  });
  app.get('/files/:id', (req, res) => {
    const row = select.get(req.params.id);
    if (!row) {
      res.status(404).json({ error: 'not found' });
      return;
    }
    res.type(row.mime_type).attachment(row.original_name);
    res.sendFile(row.path, { root: path.join(DATA_DIR, 'files') });
  });
  return app;
}

if (cluster.isPrimary) {
  fs.mkdirSync(path.join(DATA_DIR, 'files'), { recursive: true });
}
if (PROCESSES > 1 && cluster.isPrimary) {
  openDatabase().close();
  for (let i = 0; i < PROCESSES; i += 1) cluster.fork();
  process.on('SIGTERM', () => {
    for (const worker of Object.values(cluster.workers)) worker.kill();
    process.exit(0);
  });
} else {
  createApp(openDatabase()).listen(PORT, HOST);
}
