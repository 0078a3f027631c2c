"""What stands beside a student's code in the sandbox. It sees this folder and nothing else of the course.

So these files import nothing of `gencourse` but one another, and hold no answer, no tolerance and no secret.
"""
