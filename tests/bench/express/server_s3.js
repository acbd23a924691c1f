'use strict';
// The peer of `make bench` on S3 and MongoDB: a file service as it is commonly written on Node.
// Multipart bodies are kept in memory by multer and sent to the store by the minio client, rows go
// to MongoDB through its driver, downloads are piped from the store. Connection pools are as the
// libraries make them, but that the minio client's connections are kept alive. HOST, PORT,
// S3_ENDPOINT, S3_REGION, S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY, MONGODB_URI and MONGODB_DATABASE
// come from the environment.

const crypto = require('node:crypto');
const http = require('node:http');
const { pipeline } = require('node:stream');
const express = require('express');
const { Client } = require('minio');
const { MongoClient } = require('mongodb');
const multer = require('multer');

const HOST = process.env.HOST || '127.0.0.1';
const PORT = Number(process.env.PORT || 3000);
const BUCKET = process.env.S3_BUCKET || 'peer';
const MAX_FILE_SIZE = 50 * 1024 * 1024;

function openStore() {
  const endpoint = new URL(process.env.S3_ENDPOINT);
  return new Client({
    endPoint: endpoint.hostname,
    port: Number(endpoint.port),
    useSSL: false,
    region: process.env.S3_REGION,
    accessKey: process.env.S3_ACCESS_KEY,
    secretKey: process.env.S3_SECRET_KEY,
    transportAgent: new http.Agent({ keepAlive: true }),
  });
}

async function openFiles() {
  const client = new MongoClient(process.env.MONGODB_URI);
  await client.connect();
  const files = client.db(process.env.MONGODB_DATABASE).collection('files');
  await files.createIndex({ createdAt: -1, _id: -1 });
  return files;
}

function present(row) {
  const { _id: id, originalName, mimeType, size, createdAt } = row;
  return { id, originalName, mimeType, size, createdAt };
}

function createApp(store, files) {
  const upload = multer({
    storage: multer.memoryStorage(),
    limits: { fileSize: MAX_FILE_SIZE, files: 1 },
  });

  const app = express();
  app.disable('x-powered-by');
  app.get('/ready', (req, res) => res.json({ status: 'ok' }));
  app.post('/upload', upload.single('file'), async (req, res) => {
    const { originalname, mimetype, size, buffer } = req.file;
    const id = crypto.randomUUID();
    await store.putObject(BUCKET, id, buffer, size, { 'Content-Type': mimetype });
    const row = {
      _id: id, originalName: originalname, mimeType: mimetype, size, key: id, createdAt: new Date(),
    };
    await files.insertOne(row);
    res.status(201).location(`/files/${id}`).json(present(row));
  });
  app.get('/files', async (req, res) => {
    const limit = Math.min(Number(req.query.limit) || 100, 1000);
    const [rows, total] = await Promise.all([
      files.find().sort({ createdAt: -1, _id: -1 }).limit(limit).toArray(),
      files.countDocuments(),
    ]);
    res.json({ files: rows.map(present), total });
  });
  app.get('/files/:id', async (req, res) => {
    const row = await files.findOne({ _id: req.params.id });
    if (!row) {
      res.status(404).json({ error: 'not found' });
      return;
    }
    const object = await store.getObject(BUCKET, row.key);
    res.type(row.mimeType).attachment(row.originalName).set('Content-Length', String(row.size));
    pipeline(object, res, (error) => {
      if (error && error.code !== 'ERR_STREAM_PREMATURE_CLOSE') console.error(error);
    });
  });
  return app;
}

async function main() {
  const store = openStore();
  if (!(await store.bucketExists(BUCKET))) await store.makeBucket(BUCKET);
  createApp(store, await openFiles()).listen(PORT, HOST);
}

main();
