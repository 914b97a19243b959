"""A Google Cloud Function in Python, written as Google's guides have it: greets, and counts letters."""

import collections

import functions_framework


@functions_framework.http
def hello(request):
    if request.method == "POST":
        letters = collections.Counter(c for c in request.get_data(as_text=True).lower() if c.isalpha())
        return {"from": "functions-framework", "letters": dict(sorted(letters.items()))}
    name = request.args.get("name", "world")
    print(f"greeting {name}")
    return {"greeting": f"Hello, {name}!", "from": "functions-framework"}
