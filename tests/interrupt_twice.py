"""Runs a command and interrupts it twice after some seconds: interrupt_twice.py SECONDS COMMAND..."""
import signal
import subprocess
import sys
import time

with subprocess.Popen(sys.argv[2:]) as process:
    time.sleep(float(sys.argv[1]))
    process.send_signal(signal.SIGINT)
    time.sleep(0.03)
    process.send_signal(signal.SIGINT)
sys.exit(process.returncode)
