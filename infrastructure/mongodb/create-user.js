// Makes the MongoDB user that Coffer works as, or brings it to what is said here: it may read and
// write one database (and make that one's indexes), and nothing else. Run it as an administrator:
//
//   MONGODB_DATABASE=coffer COFFER_USER=coffer COFFER_PASSWORD_FILE=/run/secrets/coffer-mongodb \
//       mongosh "mongodb://admin@db.example:27017/admin" --file infrastructure/mongodb/create-user.js
//
// The password comes from the file that COFFER_PASSWORD_FILE names (one line), or from
// COFFER_PASSWORD; it is never printed. A second run sets the same password and roles again.

const fs = require('fs');

const PASSWORD_LENGTH = 16;

function fail(message) {
  print(`create-user: ${message}`);
  quit(1);
}

function readPassword() {
  const file = process.env.COFFER_PASSWORD_FILE;
  const text = file ? fs.readFileSync(file, 'utf8') : process.env.COFFER_PASSWORD || '';
  const password = text.replace(/[\r\n]+$/, '');
  if (password.length < PASSWORD_LENGTH || /[\r\n]/.test(password)) {
    fail(`COFFER_PASSWORD_FILE or COFFER_PASSWORD must give one line of ${PASSWORD_LENGTH} characters or more`);
  }
  return password;
}

const database = process.env.MONGODB_DATABASE || 'coffer';
const user = process.env.COFFER_USER || 'coffer';
if (['admin', 'config', 'local'].includes(database)) {
  fail(`MONGODB_DATABASE must not be the server's own "${database}"`);
}
const account = { pwd: readPassword(), roles: [{ role: 'readWrite', db: database }] };

// The user belongs to the database, so its URI needs no authSource.
const target = db.getSiblingDB(database);
const known = target.getUser(user) !== null;
if (known) {
  target.updateUser(user, account);
} else {
  target.createUser({ user, ...account });
}
print(`create-user: ${user} ${known ? 'is updated' : 'is made'}: readWrite on ${database}, nothing else`);
