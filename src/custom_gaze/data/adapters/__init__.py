"""Other people's formats as sessions: one small module a data set, all with one interface.

An adapter looks at a path and says whether it knows it; it reads the path's labels and says which
picture belongs to which target, on which screen, and what it leaves out. `writing.py` makes of that
a folder as the app captures it, and from there on it is a session like any other.
"""
