"""The sets that this kit makes: offline, tid2013_kodak; and what they are made from."""
