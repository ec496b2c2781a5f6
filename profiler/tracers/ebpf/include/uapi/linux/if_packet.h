/* Empty on purpose: bcc includes it, and the recorder needs nothing of it. */
