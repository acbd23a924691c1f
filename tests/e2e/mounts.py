"""Small file systems that fill up, in a mount namespace of the test process alone.

The namespace is made once per process and inherited by every service started from then on; the
kernel removes the mounts with the last process in it. Works as root and, where the kernel allows
user namespaces, as anybody.
"""

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)
_entered = False


def _call(function, *args):
    if function(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")


def _mount(source, target, kind, flags, options=""):
    _call(libc.mount, source.encode(), os.fsencode(target), kind.encode(),
          ctypes.c_ulong(flags), options.encode())


def _enter_as_user():
    """A user namespace where we are who we are, and may mount. Not for a process with threads: that
    is started by `unshare --user --map-current-user --keep-caps` instead."""
    uid, gid = os.geteuid(), os.getegid()
    _call(libc.unshare, CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"),
                       ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def enter():
    """Moves this process into a mount namespace of its own, once."""
    global _entered
    if _entered:
        return
    if libc.unshare(CLONE_NEWNS) != 0:
        _enter_as_user()
    _mount("none", "/", "none", MS_REC | MS_PRIVATE)
    _entered = True


class Tmpfs:
    """A tmpfs at `path`, made and removed with the object."""

    def __init__(self, path, size, inodes=0):
        self.path = str(path)
        enter()
        os.makedirs(self.path, exist_ok=True)
        options = f"size={size},mode=700" + (f",nr_inodes={inodes}" if inodes else "")
        _mount("tmpfs", self.path, "tmpfs", 0, options)

    def free_bytes(self):
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, name="ballast", leave=0):
        """Fills the file system with one file until `leave` bytes are free; returns its path."""
        path = os.path.join(self.path, name)
        with open(path, "ab", buffering=0) as file:
            for step in (65536, 4096):
                while self.free_bytes() - leave >= step:
                    try:
                        file.write(bytes(step))
                    except OSError:
                        break
        return path

    def fill_inodes(self, folder="ballast"):
        """Uses up every inode; returns the folder that holds them."""
        path = os.path.join(self.path, folder)
        os.mkdir(path)
        count = 0
        while True:
            try:
                os.close(os.open(f"{path}/{count}", os.O_CREAT | os.O_WRONLY, 0o600))
            except OSError:
                return path
            count += 1

    def close(self):
        libc.umount2(os.fsencode(self.path), MNT_DETACH)


class ReadOnly:
    """Makes a folder read-only for those that open it from now on, until close()."""

    def __init__(self, path):
        self.path = str(path)
        enter()
        _mount(self.path, self.path, "none", MS_BIND)
        _mount("none", self.path, "none", MS_REMOUNT | MS_BIND | MS_RDONLY)

    def close(self):
        libc.umount2(os.fsencode(self.path), MNT_DETACH)
