import functions_framework


@functions_framework.http
def hello(request):
    name = request.args.get("name", "world")
    print(f"greeting {name}")
    return {"greeting": f"Hello, {name}!"}
