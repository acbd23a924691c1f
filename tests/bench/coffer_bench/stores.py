"""The store and the database that S3 rows run on: SeaweedFS or MinIO, and FerretDB, as the tests
start them, and what the contenders of such a row are told of them."""

import sys

from .tools import ROOT, BenchError

sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import servers  # noqa: E402  (found through the line above)

KINDS = {"seaweedfs": servers.SeaweedFS, "minio": servers.MinIO}


class Stores:
    """One store of the kind and one FerretDB for all contenders of a row, each with a bucket and a
    database of its own. For use in a `with`."""

    def __init__(self, kind):
        self.kind = KINDS[kind]
        self.every = []
        self.store = self.database = None

    def __enter__(self):
        try:
            for kind in (self.kind, servers.FerretDB):
                self.every.append(kind())
                self.every[-1].launch()
            self.store, self.database = [each.start() for each in self.every]
        except servers.StartFailed as problem:
            self.__exit__()
            raise BenchError(str(problem)) from problem
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for each in self.every:
            each.close()

    def settings(self, name):
        """Where a contender finds its bucket, which is made here, and its database."""
        return {"S3_ENDPOINT": self.store.endpoint, "S3_REGION": self.store.region,
                "S3_ACCESS_KEY": self.store.access_key, "S3_SECRET_KEY": self.store.secret_key,
                "S3_BUCKET": self.store.make_bucket(f"bench-{name}"),
                "MONGODB_URI": self.database.uri, "MONGODB_DATABASE": f"bench_{name}"}

    def coffer(self, name="coffer", **more):
        """The same and the drivers, for the service."""
        return {"STORAGE_DRIVER": "s3", "METADATA_DRIVER": "mongodb"} | self.settings(name) | more
