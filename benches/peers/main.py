"""The same handler as benches/python, for functions-framework."""


def handler(request):
    return "Hello, world!\n"
