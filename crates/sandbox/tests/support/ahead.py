"""An interpreter that starts before it is known what it runs, and becomes the script that its spec names."""

import ctypes
import os
import runpy
import socket
import sys
import time

while time.process_time() < float(os.environ.get("BURN", 0)):
    pass
word = socket.socket(fileno=3)
word.send(b"ready")
ctypes.CDLL(None).prctl(15, b"ready")
spec = word.recv(128 * 1024)
if not spec:
    sys.exit()
word.close()
parts = spec.split(b"\0")[:-1]
count = int(parts[2])
arguments = [os.fsdecode(part) for part in parts[3 : 3 + count]]
os.environ.clear()
for part in parts[3 + count :]:
    name, _, value = part.partition(b"=")
    os.environb[name] = value
time.tzset()
os.chdir(parts[0])
if "--die-ahead" in arguments:
    os._exit(9)
while arguments[1].startswith("-"):
    del arguments[1]
sys.argv = arguments[1:]
sys.path[0] = os.path.dirname(arguments[1])
runpy.run_path(arguments[1], run_name="__main__")
