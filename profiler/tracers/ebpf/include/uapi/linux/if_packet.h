/* Empty on purpose: bcc includes it, this program needs nothing of it. */
