__version__ = "0.1.0"

# Threads that wait for each other sleep instead of spinning, so that other programs can go on. OpenMP reads this
# when torch is first imported: import petseg_nb before torch, or set the variable in the shell.
import os
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
