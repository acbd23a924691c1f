// Makes the user that mongodb_exporter reads statistics as. Run once by the image's own start, on an empty
// database; a second run by hand sets password and roles again.
const fs = require('fs');

const password = fs.readFileSync(process.env.EXPORTER_PASSWORD_FILE, 'utf8').replace(/[\r\n]+$/, '');
const admin = db.getSiblingDB('admin');
const account = {
  pwd: password,
  roles: [{ role: 'clusterMonitor', db: 'admin' }, { role: 'read', db: 'local' }],
};
if (admin.getUser('exporter') === null) {
  admin.createUser({ user: 'exporter', ...account });
} else {
  admin.updateUser('exporter', account);
}
